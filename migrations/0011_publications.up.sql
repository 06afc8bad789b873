-- Publications of persisted channels, for history beyond what Redis keeps. Written in batches by whoever maintains the platform;
-- a batch that is written twice adds nothing, since time, epoch and offset were given when the publication was accepted.
-- Partitioned by month: what is past its retention goes with a partition, and a year is few enough to look through.
CREATE TABLE publications (
    channel      text        NOT NULL,
    epoch        text        NOT NULL,
    "offset"     bigint      NOT NULL,
    published_at timestamptz NOT NULL,
    -- JSON as it is sent: {"data":…,"info":…,"tags":…}. Text, for it is only ever passed on.
    body         text        NOT NULL,
    PRIMARY KEY (channel, epoch, "offset", published_at)
) PARTITION BY RANGE (published_at);

-- A channel's publications across epochs, newest first.
CREATE INDEX publications_channel_time ON publications (channel, published_at, "offset");

-- The net under the monthly partitions.
CREATE TABLE publications_default PARTITION OF publications DEFAULT;

-- Makes the partition of one UTC month unless it exists; rows that the default partition caught meanwhile move into it.
CREATE FUNCTION publications_add_month(month date) RETURNS boolean
    LANGUAGE plpgsql AS $$
DECLARE
    first          date := date_trunc('month', month)::date;
    partition_name text := 'publications_' || to_char(first, 'YYYYMM');
    low            timestamptz := first::timestamp AT TIME ZONE 'UTC';
    high           timestamptz := (first + interval '1 month')::timestamp AT TIME ZONE 'UTC';
BEGIN
    IF to_regclass(partition_name) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE publications INCLUDING ALL)', partition_name);
    EXECUTE format(
        'WITH moved AS (DELETE FROM publications_default WHERE published_at >= %L AND published_at < %L RETURNING *)
         INSERT INTO %I SELECT * FROM moved',
        low, high, partition_name);
    EXECUTE format('ALTER TABLE publications ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', partition_name, low, high);
    RETURN true;
END $$;

-- Drops the partitions of months that end before `cutoff`, and what the default partition has from before; returns how many months.
CREATE FUNCTION publications_drop_before(cutoff timestamptz) RETURNS integer
    LANGUAGE plpgsql AS $$
DECLARE
    partition_name text;
    n_dropped      integer := 0;
BEGIN
    FOR partition_name IN
        SELECT child.relname
        FROM pg_inherits
        JOIN pg_class AS child ON child.oid = inhrelid
        WHERE inhparent = 'publications'::regclass
          AND child.relname ~ '^publications_\d{6}$'
          AND (to_date(right(child.relname, 6), 'YYYYMM') + interval '1 month')::timestamp AT TIME ZONE 'UTC' <= cutoff
    LOOP
        EXECUTE format('DROP TABLE %I', partition_name);
        n_dropped := n_dropped + 1;
    END LOOP;
    DELETE FROM publications_default WHERE published_at < cutoff;
    RETURN n_dropped;
END $$;

SELECT publications_add_month((now() AT TIME ZONE 'UTC' + ahead * interval '1 month')::date) FROM generate_series(0, 1) AS ahead;
