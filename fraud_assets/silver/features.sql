-- The eight features of every good transaction of a partition.
--
-- In: good_transactions, and lookback_transactions (the same card columns of the previous partition's last minutes).
-- Parameter: high_value_amount.
-- Out: one row per good transaction in order of time and id, with the two exact window sums that the digest needs.
--
-- A card's window at time t is the closed interval [t - 5 min, t]; ties at t see each other, nothing sees a later row.
-- Sums are integers (thousandths, squares in 128 bits), so that neither row order nor partitioning changes a bit.
WITH
    transactions AS (
        SELECT *, epoch_us(event_timestamp) AS time_us, false AS is_lookback
        FROM good_transactions
        UNION ALL BY NAME
        SELECT *, epoch_us(event_timestamp) AS time_us, true AS is_lookback
        FROM lookback_transactions
    ),
    windowed AS (
        SELECT
            *,
            count(*) OVER five_minutes AS n,
            sum(amount_thousandths) OVER five_minutes AS sum_thousandths,
            sum(amount_thousandths::HUGEINT * amount_thousandths) OVER five_minutes AS sum_squares,
            count(DISTINCT ProductCD) OVER five_minutes AS products
        FROM transactions
        WINDOW five_minutes AS (
            PARTITION BY card_id ORDER BY time_us
            RANGE BETWEEN 300_000_000 PRECEDING AND CURRENT ROW
        )
    )
SELECT
    TransactionID,
    event_timestamp,
    card_id,
    ProductCD,
    amount_thousandths / 1e3 AS TransactionAmt,
    ln(1 + amount_thousandths / 1e3) AS log_transaction_amount,
    (amount_thousandths / 1e3 >= $high_value_amount)::INTEGER AS is_high_value_txn,
    is_international_txn::INTEGER AS is_international_txn,
    n AS txn_count_5min,
    sum_thousandths::DOUBLE / (1000 * n) AS avg_amount_5min,
    CASE
        WHEN n = 1 THEN 0.0::DOUBLE
        -- The numerator is exact and never negative; only its root is rounded.
        ELSE sqrt((n * sum_squares - sum_thousandths * sum_thousandths)::DOUBLE / (n * (n - 1))) / 1e3
    END AS stddev_amount_5min,
    products AS product_diversity_5min,
    isFraud,
    amount_thousandths,
    sum_thousandths,
    sum_squares
FROM windowed
WHERE NOT is_lookback
ORDER BY event_timestamp, TransactionID
