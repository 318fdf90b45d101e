-- Which alert, or transaction drawn for review, each decision is about, and which transaction.
--
-- In: decided (TransactionID, outcome, reviewer, reviewed_at as text, note, review_file); shown, the alerts that are on a
-- list or were, and what was drawn, for which is_alert is false; silver_rows, of all partitions. Parameter: feed.
-- Out: one row per decision. An id that several partitions have is taken for the last one of them.
WITH
    known AS (
        SELECT TransactionID, max(partition_key) AS partition_key
        FROM silver_rows
        SEMI JOIN decided USING (TransactionID)
        GROUP BY TransactionID
    ),

    seen AS (
        SELECT
            TransactionID,
            max_by((partition_key, model_version, card_id), (is_alert, alerted_at)) AS it,
            bool_or(is_alert) AS was_alert
        FROM shown
        SEMI JOIN decided USING (TransactionID)
        GROUP BY TransactionID
    )

SELECT
    decided.* REPLACE (reviewed_at::TIMESTAMPTZ AS reviewed_at),
    coalesce(it[1], known.partition_key) AS partition_key,
    coalesce(was_alert, false) AS was_alert,
    NOT coalesce(was_alert, true) AS was_sampled,
    it[2] AS model_version,
    it[3] AS card_id,
    $feed AS feed
FROM decided
LEFT JOIN known USING (TransactionID)
LEFT JOIN seen USING (TransactionID)
