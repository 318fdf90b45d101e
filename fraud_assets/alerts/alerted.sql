-- The transactions of a partition that are put before an analyst, with their features: its most suspicious anomalies,
-- or, where a ranker gave scores, the rows that it puts first, anomalies or not.
--
-- In: scored_rows and silver_rows, the partition in Gold and in Silver; ranked_rows, the scores of a ranker, empty where
-- there is none. Parameter: most. Variable: is_ranked.
-- Out: one row per alert. Ids settle ties, so that the same rows always give the same list.
WITH
    alerted AS (
        SELECT
            TransactionID, fraud_score, score_percentile, is_anomaly, ranker_score, fraud_probability,
            coalesce(ranker_score, fraud_score) AS order_score
        FROM scored_rows
        LEFT JOIN ranked_rows USING (TransactionID)
        WHERE CASE WHEN getvariable('is_ranked') THEN ranker_score IS NOT NULL ELSE is_anomaly END
        ORDER BY order_score DESC, TransactionID
        LIMIT $most
    )
SELECT *
FROM silver_rows
JOIN alerted USING (TransactionID)
