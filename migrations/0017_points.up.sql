-- Tracks and their points: positions and readings that come in bulk, through Redis, and are written in batches.

CREATE TABLE tracks (
    id          uuid        PRIMARY KEY,
    owner_id    uuid        NOT NULL REFERENCES users ON DELETE CASCADE,
    name        text        NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    -- The name that the owner's own systems know it by.
    external_id text        CHECK (length(external_id) BETWEEN 1 AND 200),
    attributes  json,
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL
);

CREATE INDEX tracks_owner_id ON tracks (owner_id, id);
CREATE UNIQUE INDEX tracks_owner_external_id ON tracks (owner_id, external_id) WHERE external_id IS NOT NULL;

-- No foreign key to tracks: it would cost a look-up and a lock for each of a million points. Who writes points checks their tracks
-- by a set that it remembers for a while; `tracks_removed` has what such a writer may still add taken away.
-- `revision` counts the changes of a row: 0 tells a row that was really inserted from one that a resend changed.
-- Partitioned by month: what is past its retention goes with a partition.
CREATE TABLE points (
    track_id    uuid        NOT NULL,
    recorded_at timestamptz NOT NULL,
    lat         float8      NOT NULL,
    lon         float8      NOT NULL,
    altitude_m  float8,
    speed_mps   float8,
    heading_deg float8,
    accuracy_m  float8,
    revision    smallint    NOT NULL DEFAULT 0,
    -- JSON as it was sent, of up to a kibibyte. Text, for it is only ever passed on.
    attributes  text
) PARTITION BY RANGE (recorded_at);

-- One point of a track at an instant: a resend meets itself here.
CREATE UNIQUE INDEX points_track_time ON points (track_id, recorded_at DESC);
-- Points come about in the order of their time: a few pages say where those of a day are.
CREATE INDEX points_time ON points USING brin (recorded_at);

-- The net under the monthly partitions.
CREATE TABLE points_default PARTITION OF points DEFAULT;

-- What is asked of hours, kept as points are written. `distance_m` is along the points of the hour in the order of their time, `first_*`
-- and `last_*` are where that way begins and ends: later points go on from there.
CREATE TABLE point_hours (
    track_id    uuid        NOT NULL,
    hour        timestamptz NOT NULL,
    count       bigint      NOT NULL,
    speed_count bigint      NOT NULL,
    speed_sum   float8      NOT NULL,
    speed_min   float8,
    speed_max   float8,
    distance_m  float8      NOT NULL,
    west        float8      NOT NULL,
    south       float8      NOT NULL,
    east        float8      NOT NULL,
    north       float8      NOT NULL,
    first_at    timestamptz NOT NULL,
    first_lat   float8      NOT NULL,
    first_lon   float8      NOT NULL,
    last_at     timestamptz NOT NULL,
    last_lat    float8      NOT NULL,
    last_lon    float8      NOT NULL,
    PRIMARY KEY (track_id, hour)
    -- Every batch changes rows of the present hour: room for new versions beside the old ones, and no index names what changes.
) WITH (fillfactor = 70);

-- Hours of a time range, whatever the track: the stats of all tracks.
CREATE INDEX point_hours_hour ON point_hours (hour);

-- Points that were accepted and cannot be stored, with the reason. The id is the stream entry's with the point's place in it, so that an
-- entry that is worked on twice adds nothing.
CREATE TABLE points_dead (
    id           uuid        PRIMARY KEY,
    track_id     uuid,
    point        json        NOT NULL,
    code         text        NOT NULL,
    detail       text        NOT NULL,
    -- NULL: not known, since the entry cannot be read.
    submitted_by uuid        REFERENCES users ON DELETE CASCADE,
    -- Whether whoever sent it may write to everybody's tracks.
    for_all      boolean     NOT NULL,
    received_at  timestamptz NOT NULL
);

CREATE INDEX points_dead_submitted_by ON points_dead (submitted_by, id);
CREATE INDEX points_dead_code ON points_dead (code, id);

-- Tracks that were deleted, until nothing writes to them any more and their points are gone.
CREATE TABLE tracks_removed (
    track_id   uuid        PRIMARY KEY,
    removed_at timestamptz NOT NULL
);

-- However a track goes, also with its owner.
CREATE FUNCTION tracks_note_removed() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO tracks_removed (track_id, removed_at)
    VALUES (OLD.id, now())
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;

CREATE TRIGGER tracks_removed AFTER DELETE ON tracks
    FOR EACH ROW EXECUTE FUNCTION tracks_note_removed();

-- Metres between two points, none of them NULL, of a sphere of the Earth's mean radius (haversine). Who writes points has the same in Rust.
CREATE FUNCTION points_distance(lat1 float8, lon1 float8, lat2 float8, lon2 float8) RETURNS float8
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT 2 * 6371008.8 * asin(least(1, sqrt(
        power(sin(radians(lat2 - lat1) / 2), 2)
        + cos(radians(lat1)) * cos(radians(lat2)) * power(sin(radians(lon2 - lon1) / 2), 2))))
$$;

-- Makes the partition of one UTC month unless it exists; rows that the default partition caught meanwhile move into it.
CREATE FUNCTION points_add_month(month date) RETURNS boolean
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

-- Removes whole months that end before `cutoff`: their partitions, what the default partition has of them, and their hours. Returns how
-- many partitions that were.
CREATE FUNCTION points_drop_before(cutoff timestamptz) RETURNS integer
    LANGUAGE plpgsql AS $$
DECLARE
    first          timestamptz := date_trunc('month', cutoff AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
    partition_name text;
    n_dropped      integer := 0;
BEGIN
    FOR partition_name IN
        SELECT child.relname
        FROM pg_inherits
        JOIN pg_class AS child ON child.oid = inhrelid
        WHERE inhparent = 'points'::regclass
          AND child.relname ~ '^points_\d{6}$'
          AND (to_date(right(child.relname, 6), 'YYYYMM') + interval '1 month')::timestamp AT TIME ZONE 'UTC' <= first
    LOOP
        EXECUTE format('DROP TABLE %I', partition_name);
        n_dropped := n_dropped + 1;
    END LOOP;
    DELETE FROM points_default WHERE recorded_at < first;
    DELETE FROM point_hours WHERE hour < first;
    RETURN n_dropped;
END $$;

SELECT points_add_month((now() AT TIME ZONE 'UTC' + ahead * interval '1 month')::date) FROM generate_series(0, 1) AS ahead;
