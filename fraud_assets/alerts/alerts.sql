-- The rows of gold.fraud_alerts: alerts in the order of work, card after card, with all that a glance needs.
--
-- In: alerted, card_usuals, told (the reasons of each alert), scored_rows, silver_rows.
-- Parameters: usual_amount (everybody's), burst, far, nearest.
WITH
    cards AS (
        SELECT
            card_id,
            count(*) AS card_alerts,
            -- Amounts are thousandths: summed as integers they give the same in any order.
            sum(round_even(TransactionAmt * 1000, 0)::HUGEINT)::DOUBLE / 1000 AS card_amount_at_risk,
            row_number() OVER (ORDER BY max(order_score) DESC, card_id) AS card_rank
        FROM alerted
        GROUP BY card_id
    ),

    card_rows AS (
        SELECT
            scored.card_id,
            scored.TransactionID,
            {
                'TransactionID': scored.TransactionID,
                'event_timestamp': scored.event_timestamp,
                'TransactionAmt': scored.TransactionAmt,
                'ProductCD': silver.ProductCD,
                'fraud_score': scored.fraud_score,
                'is_anomaly': scored.is_anomaly
            } AS transaction,
            row_number() OVER (
                PARTITION BY scored.card_id ORDER BY scored.event_timestamp, scored.TransactionID
            ) AS place
        FROM scored_rows AS scored
        SEMI JOIN alerted USING (card_id)
        JOIN silver_rows AS silver USING (TransactionID)
    ),

    -- A card may have any number of transactions a day; those nearest to the alert are its story.
    card_days AS (
        SELECT
            own.TransactionID,
            list(around.transaction ORDER BY around.place) AS card_transactions
        FROM alerted
        JOIN card_rows AS own USING (TransactionID)
        JOIN card_rows AS around ON around.card_id = own.card_id AND abs(around.place - own.place) <= $nearest
        GROUP BY own.TransactionID
    )

SELECT
    row_number() OVER (ORDER BY card_rank, order_score DESC, TransactionID) AS rank,
    alerted.* EXCLUDE (isFraud, input_version, lookback_version, tail_version, silver_version, partition_key),
    told.reasons,
    told.reason,
    told.ranker_reasons,
    told.ranker_reason,
    card_days.card_transactions,
    cards.card_rank,
    cards.card_alerts,
    cards.card_amount_at_risk,
    coalesce(earlier_transactions, 0) AS card_earlier_transactions,
    own_usual_amount AS card_usual_amount,
    most_in_5min AS card_most_in_5min,
    txn_count_5min >= $burst AND avg_amount_5min + stddev_amount_5min < $usual_amount AS is_burst_of_small_alike,
    txn_count_5min >= $burst
        AND coalesce(most_in_5min >= txn_count_5min AND TransactionAmt < $far * own_usual_amount, false)
        AS is_usual_burst
FROM alerted
JOIN told USING (TransactionID)
JOIN card_days USING (TransactionID)
JOIN cards USING (card_id)
LEFT JOIN card_usuals USING (card_id)
