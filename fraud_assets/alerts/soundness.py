"""Whether lists of alerts are what they say: the evaluator behind `every_alert_has_its_score`."""

from duckdb import DuckDBPyConnection


def compare_alerts(con: DuckDBPyConnection, *, alerts: str, lists: str, scored: str) -> dict[str, str]:
    """Return by partition what is wrong with its list, given relations of alerts, of lists and of Gold.

    Every alert has its score in Gold; on the forest's list each is an anomaly, while a ranker may put others first; and
    ranks have no gap.
    A list of scores that changed since is no fault here: `fraud-assets status` shows it as due.
    """
    found = con.execute(
        f"""
        WITH current AS (
            SELECT lists.*
            FROM {lists} AS lists
            SEMI JOIN {scored} AS scored USING (partition_key, silver_version, model_version)
        ),
        found AS (
            SELECT
                partition_key,
                count(*) AS alerts,
                count(*) FILTER (NOT scored.is_anomaly AND alerts.history_version IS NULL) AS harmless,
                count(*) FILTER (scored.fraud_score IS DISTINCT FROM alerts.fraud_score) AS differing,
                max(rank) = count(*) AND count(DISTINCT rank) = count(*) AS is_ranked
            FROM {alerts} AS alerts
            SEMI JOIN current USING (partition_key)
            LEFT JOIN {scored} AS scored USING (partition_key, TransactionID)
            GROUP BY partition_key
        )
        SELECT
            partition_key, coalesce(found.alerts, 0), current.alerts, coalesce(harmless, 0), coalesce(differing, 0),
            coalesce(is_ranked, true)
        FROM current LEFT JOIN found USING (partition_key)
        ORDER BY ALL
        """
    ).fetchall()
    return {
        key: f"{alerts} alerts where its list says {said}, {harmless} no anomalies, {differing} without their score"
        + ("" if is_ranked else ", ranks are not 1 to their number")
        for key, alerts, said, harmless, differing, is_ranked in found
        if alerts != said or harmless or differing or not is_ranked
    }
