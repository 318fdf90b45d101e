-- Of rows that are good by themselves and have their id in common, which is good, and why the others are not.
--
-- In: evaluated_rows, what evaluated_alone.sql makes of all records of a partition (or of many: `part` says which).
-- Parameters: is_last_file (a later file supersedes an earlier one).
-- Out: the same rows with the last label, and reasons (empty for a good row).
WITH
    repeated_ids AS (
        SELECT TransactionID, part
        FROM evaluated_rows
        WHERE reasons = []
        GROUP BY TransactionID, part
        HAVING count(*) > 1
    ),
    repeated_rows AS (
        SELECT
            *,
            -- The label is no payload: a later file may bring it.
            (event_timestamp, card_id, ProductCD, amount_thousandths, is_international_txn) AS payload,
            CASE WHEN $is_last_file THEN file_no ELSE 0 END AS edition
        FROM evaluated_rows
        WHERE reasons = [] AND (TransactionID, part) IN (SELECT (TransactionID, part) FROM repeated_ids)
    ),
    compared_rows AS (
        SELECT
            file_no,
            line,
            last_value(isFraud IGNORE NULLS) OVER all_copies AS last_label,
            last_value(payload) OVER all_copies AS last_payload,
            payload,
            edition < max(edition) OVER all_copies AS is_earlier_edition,
            min(payload) OVER same_edition <> max(payload) OVER same_edition AS is_conflict,
            row_number() OVER (PARTITION BY TransactionID, part, edition ORDER BY file_no, line) > 1 AS is_surplus
        FROM repeated_rows
        WINDOW
            all_copies AS (
                PARTITION BY TransactionID, part ORDER BY file_no, line
                ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
            ),
            same_edition AS (PARTITION BY TransactionID, part, edition)
    ),
    evaluated_together AS (
        SELECT
            file_no,
            line,
            last_label,
            CASE
                WHEN is_earlier_edition AND payload <> last_payload THEN 'superseded'
                WHEN is_earlier_edition THEN 'duplicate'
                WHEN is_conflict THEN 'conflicting_id'
                WHEN is_surplus THEN 'duplicate'
            END AS reason
        FROM compared_rows
    )
SELECT
    evaluated_rows.* REPLACE (
        coalesce(last_label, isFraud) AS isFraud,
        CASE WHEN reason IS NULL THEN reasons ELSE [reason] END AS reasons
    )
FROM evaluated_rows
LEFT JOIN evaluated_together USING (file_no, line)
