-- The eight features of every good transaction of a partition.
--
-- In: windowed_transactions, the good ones, each with what its trailing window holds (see windows.py).
-- Variable: high_value_amount.
-- Out: one row per good transaction, with the two exact window sums that the digest needs.
WITH
    windowed AS (
        SELECT
            * REPLACE (count::BIGINT AS count, products::BIGINT AS products),
            sum_squares_high::HUGEINT * 18446744073709551616 + sum_squares_low AS sum_squares
        FROM windowed_transactions
    )
SELECT
    TransactionID,
    event_timestamp,
    card_id,
    ProductCD,
    amount_thousandths / 1e3 AS TransactionAmt,
    ln(1 + amount_thousandths / 1e3) AS log_transaction_amount,
    (amount_thousandths / 1e3 >= getvariable('high_value_amount'))::INTEGER AS is_high_value_txn,
    is_international_txn::INTEGER AS is_international_txn,
    count AS txn_count_5min,
    sum::DOUBLE / (1000 * count) AS avg_amount_5min,
    CASE
        WHEN count = 1 THEN 0.0::DOUBLE
        -- The numerator is exact and never negative; only its root is rounded.
        ELSE sqrt((count * sum_squares - sum::HUGEINT * sum)::DOUBLE / (count * (count - 1))) / 1e3
    END AS stddev_amount_5min,
    products AS product_diversity_5min,
    isFraud,
    amount_thousandths,
    sum AS sum_thousandths,
    sum_squares
FROM windowed
