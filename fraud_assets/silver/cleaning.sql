-- Which landed rows are good, and every reason why the others are not.
--
-- In: candidate_rows, one row per delimited record of all files (file_no, line: its place; the canonical columns,
-- NULL where the source's expressions give none; has_label: whether a label stands there, 0, 1 or other; faults: the
-- reasons found while reading its cells; part: its partition where there are many, each evaluated by itself).
-- Parameters: start_time and end_time of the partition (NULL where there are many), is_absolute (a refund counts with
-- its absolute amount), is_last_file (a later file supersedes an earlier one).
-- Out: the same rows with the last label, the amount in thousandths, and reasons (empty for a good row).
WITH
    read_rows AS (
        SELECT
            * REPLACE (CASE WHEN $is_absolute THEN abs(TransactionAmt) ELSE TransactionAmt END AS TransactionAmt)
        FROM candidate_rows
    ),
    evaluated_alone AS (
        SELECT
            * EXCLUDE (TransactionAmt, is_international_txn, faults, has_label),
            -- Rounded once, here: every sum downstream is a sum of integers.
            CASE
                WHEN isfinite(TransactionAmt) AND abs(TransactionAmt) < 1e11
                THEN round_even(TransactionAmt * 1000, 0)::BIGINT
            END AS amount_thousandths,
            is_international_txn::INTEGER AS is_international_txn,
            list_concat(faults, list_filter([
                CASE WHEN NOT isfinite(TransactionAmt) THEN 'amount_not_finite' END,
                CASE WHEN isfinite(TransactionAmt) AND TransactionAmt < 0 THEN 'amount_negative' END,
                -- Below this limit the squares of 100,000 amounts in one window still sum exactly in 128 bits.
                CASE WHEN isfinite(TransactionAmt) AND TransactionAmt >= 1e11 THEN 'amount_too_large' END,
                CASE
                    WHEN event_timestamp < $start_time OR event_timestamp >= $end_time
                    THEN 'time_outside_partition'
                END,
                CASE WHEN has_label AND isFraud IS NULL THEN 'label_not_0_or_1' END
            ], lambda reason: reason IS NOT NULL)) AS reasons
        FROM read_rows
    ),
    repeated_ids AS (
        SELECT TransactionID, part
        FROM evaluated_alone
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
        FROM evaluated_alone
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
    evaluated_alone.* EXCLUDE (part) REPLACE (
        coalesce(last_label, isFraud) AS isFraud,
        CASE WHEN reason IS NULL THEN reasons ELSE [reason] END AS reasons
    )
FROM evaluated_alone
LEFT JOIN evaluated_together USING (file_no, line)
