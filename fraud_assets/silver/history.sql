-- What the earlier partitions tell of the card of each transaction.
--
-- In: history_rows, the Silver rows of some partitions; card_sums, the sums of these partitions and of those before;
-- history_partitions, each partition's place in time and how many places back it sees.
-- Out: one row per transaction.
WITH
    of_cards AS (
        SELECT
            card_id,
            place,
            reach,
            sum(transactions) AS transactions,
            sum(log_sum) AS log_sum,
            sum(log_squares) AS log_squares,
            max(last_at) AS last_at
        FROM card_sums
        JOIN history_partitions USING (partition_key)
        GROUP BY ALL
    ),

    earlier AS (
        SELECT
            card_id,
            place,
            coalesce(sum(transactions) OVER before, 0) AS transactions,
            sum(log_sum) OVER before AS log_sum,
            sum(log_squares) OVER before AS log_squares,
            max(last_at) OVER before AS last_at
        FROM of_cards
        WINDOW before AS (PARTITION BY card_id ORDER BY place RANGE BETWEEN reach PRECEDING AND 1 PRECEDING)
    ),

    products AS (
        SELECT
            card_id,
            ProductCD,
            place,
            coalesce(
                lag(place) OVER (PARTITION BY card_id, ProductCD ORDER BY place) < place - reach, true
            )::INTEGER AS is_new_product
        FROM card_sums
        JOIN history_partitions USING (partition_key)
    )

SELECT
    TransactionID,
    transactions::BIGINT AS card_txn_count_30d,
    log_sum::DOUBLE / (1000000 * transactions::BIGINT) AS card_mean_log_amount_30d,
    CASE
        WHEN transactions = 1 THEN 0.0::DOUBLE
        -- The numerator is exact and never negative; only its root is rounded.
        WHEN transactions > 1 THEN
            sqrt(
                (transactions * log_squares - log_sum * log_sum)::DOUBLE / (transactions * (transactions - 1))::DOUBLE
            ) / 1e6
    END AS card_stddev_log_amount_30d,
    (epoch_us(event_timestamp) - epoch_us(last_at)) / 86400000000 AS days_since_last_txn,
    is_new_product,
    history_version,
    handed_on_version,
    partition_key
FROM history_rows
JOIN history_partitions USING (partition_key)
JOIN earlier USING (card_id, place)
JOIN products USING (card_id, ProductCD, place)
WHERE history_version IS NOT NULL
