CREATE OR REPLACE FUNCTION points_add_month(month date) RETURNS boolean
    LANGUAGE plpgsql AS $$
DECLARE
    first          date := date_trunc('month', month)::date;
    partition_name text := 'points_' || to_char(first, 'YYYYMM');
    low            timestamptz := first::timestamp AT TIME ZONE 'UTC';
    high           timestamptz := (first + interval '1 month')::timestamp AT TIME ZONE 'UTC';
BEGIN
    IF to_regclass(partition_name) IS NOT NULL THEN
        RETURN false;
    END IF;
    -- One at a time: two writers may find the same month missing.
    PERFORM pg_advisory_xact_lock(7205764);
    IF to_regclass(partition_name) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE points INCLUDING ALL)', partition_name);
    -- From here on nobody writes to the default partition until the month is attached: a row that came between would keep it from being.
    LOCK TABLE points_default IN SHARE ROW EXCLUSIVE MODE;
    EXECUTE format(
        'WITH moved AS (DELETE FROM points_default WHERE recorded_at >= %L AND recorded_at < %L RETURNING *)
         INSERT INTO %I SELECT * FROM moved',
        low, high, partition_name);
    EXECUTE format('ALTER TABLE points ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', partition_name, low, high);
    RETURN true;
END $$;
