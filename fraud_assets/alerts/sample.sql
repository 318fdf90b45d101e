-- Transactions of a partition that are no alert, drawn at random for review: those that were drawn before, then those
-- whose ids have the lowest digests, so that nothing of a transaction decides.
--
-- In: scored_rows and silver_rows, the partition in Gold and in Silver; listed_alerts, its alerts; drawn_before; made_of.
-- Parameter: most. Out: one row per drawn transaction.
SELECT
    scored.*,
    silver.ProductCD,
    count(*) OVER () AS unalerted_rows,
    made_of.alerted_at
FROM scored_rows AS scored
ANTI JOIN listed_alerts USING (TransactionID)
JOIN silver_rows AS silver USING (TransactionID)
LEFT JOIN drawn_before AS before USING (TransactionID)
CROSS JOIN made_of
ORDER BY before.TransactionID IS NULL, md5('drawn for review ' || scored.TransactionID), scored.TransactionID
LIMIT $most
