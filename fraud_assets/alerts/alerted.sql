-- The transactions of a partition that are put before an analyst: its most suspicious anomalies, with their features.
--
-- In: scored_rows and silver_rows, the partition in Gold and in Silver. Parameter: most.
-- Out: one row per alert. Ids settle ties, so that the same rows always give the same list.
WITH
    alerted AS (
        SELECT TransactionID, fraud_score, score_percentile
        FROM scored_rows
        WHERE is_anomaly
        ORDER BY fraud_score DESC, TransactionID
        LIMIT $most
    )
SELECT *
FROM silver_rows
JOIN alerted USING (TransactionID)
