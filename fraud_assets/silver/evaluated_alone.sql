-- What is wrong with each row by itself.
--
-- In: candidate_rows, one row per delimited record of all files (file_no, line: its place; the canonical columns,
-- NULL where the source's expressions give none; has_label: whether a label stands there, 0, 1 or other; faults: the
-- reasons found while reading its cells; part: its partition where there are many, each evaluated by itself).
-- Parameters: start_time and end_time of the partition (NULL where there are many), is_absolute (a refund counts with
-- its absolute amount).
-- Out: the same rows with the amount in thousandths, and reasons (empty for a row that is good by itself).
WITH
    read_rows AS (
        SELECT
            * REPLACE (CASE WHEN $is_absolute THEN abs(TransactionAmt) ELSE TransactionAmt END AS TransactionAmt)
        FROM candidate_rows
    )
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
