SELECT
    $scored_rows AS scored_rows,
    $anomalies AS anomalies,
    count(TransactionID) AS alerts,
    $anomalies - count(*) FILTER (is_anomaly) AS below_the_cut,
    count(DISTINCT card_id) AS alerted_cards,
    count(*) FILTER (is_burst_of_small_alike) AS bursts_of_small_alike,
    count(*) FILTER (is_usual_burst) AS usual_bursts,
    coalesce(sum(round_even(TransactionAmt * 1000, 0)::HUGEINT), 0)::DOUBLE / 1000 AS amount_at_risk,
    $usual_amount AS usual_amount,
    $alerts_per_day AS alerts_per_day,
    $most AS most_alerts,
    any_value(made.model_version) AS model_version,
    any_value(made.silver_version) AS silver_version,
    any_value(made.alerted_at) AS alerted_at,
    any_value(made.partition_key) AS partition_key,
    any_value(made.ranker_version) AS ranker_version,
    any_value(made.history_version) AS history_version,
    (SELECT count(*) FROM drawn) AS sampled_rows
FROM made_of AS made
LEFT JOIN listed_alerts ON true
HAVING count(made.partition_key) > 0
