-- What is usual for the alerted cards, from their earlier transactions.
--
-- In: alerted; earlier_rows, the Silver rows of the days before.
-- Out: one row per alerted card that was used in those days.
SELECT
    card_id,
    count(*) AS earlier_transactions,
    round(median(TransactionAmt), 3) AS own_usual_amount,
    median(txn_count_5min)::DOUBLE AS own_usual_count,
    max(txn_count_5min) AS most_in_5min,
    avg(is_international_txn)::DOUBLE AS share_abroad
FROM earlier_rows
SEMI JOIN alerted USING (card_id)
GROUP BY card_id
