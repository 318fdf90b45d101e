SELECT {}
FROM (
    SELECT
        shown.*,
        CASE
            WHEN scored.TransactionID IS NULL THEN 'the transaction is not in the partition any more'
            WHEN NOT scored.is_anomaly AND NOT getvariable('is_ranked') THEN 'its score lies below the threshold now'
            ELSE 'others are more suspicious now'
        END AS why,
        getvariable('alerted_at') AS withdrawn_at
    FROM shown_alerts AS shown
    LEFT JOIN scored_rows AS scored USING (TransactionID)
    UNION ALL BY NAME
    FROM withdrawn_before
    WHERE TransactionID NOT IN (SELECT TransactionID FROM shown_alerts)
)
WHERE TransactionID NOT IN (SELECT TransactionID FROM listed_alerts)
ORDER BY withdrawn_at, TransactionID
