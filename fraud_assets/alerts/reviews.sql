-- Which alert each decision is about, and which transaction.
--
-- In: decided (TransactionID, outcome, reviewer, reviewed_at as text, note, review_file); shown_alerts, those that are
-- on a list or were; silver_rows, of all partitions. Parameter: feed.
-- Out: one row per decision. An id that several partitions have is taken for the last one of them.
WITH
    known AS (
        SELECT TransactionID, max(partition_key) AS partition_key
        FROM silver_rows
        SEMI JOIN decided USING (TransactionID)
        GROUP BY TransactionID
    ),

    alerted AS (
        SELECT TransactionID, max_by((partition_key, model_version, card_id), alerted_at) AS shown
        FROM shown_alerts
        SEMI JOIN decided USING (TransactionID)
        GROUP BY TransactionID
    )

SELECT
    decided.* REPLACE (reviewed_at::TIMESTAMPTZ AS reviewed_at),
    coalesce(shown[1], known.partition_key) AS partition_key,
    shown IS NOT NULL AS was_alert,
    shown[2] AS model_version,
    shown[3] AS card_id,
    $feed AS feed
FROM decided
LEFT JOIN known USING (TransactionID)
LEFT JOIN alerted USING (TransactionID)
