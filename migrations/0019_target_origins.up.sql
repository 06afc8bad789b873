-- Headers that a target brings to an endpoint are for the origin that the endpoint had when they were given. Jobs keep it in their target,
-- schedules and batches here. NULL: they bring none, or nobody noted it, as code from before these columns does.
ALTER TABLE schedules ADD COLUMN target_origin text;
ALTER TABLE batches ADD COLUMN completion_origin text;

-- Whether its URL has changed scheme, host or port since this column is there: what nobody noted an origin for goes to the others alone.
-- By a trigger, so that changes by code from before it are seen too.
ALTER TABLE endpoints ADD COLUMN has_moved boolean NOT NULL DEFAULT false;

CREATE FUNCTION endpoints_note_move() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    NEW.has_moved := OLD.has_moved
        OR substring(NEW.url FROM '^[^:]+://[^/?#]+') IS DISTINCT FROM substring(OLD.url FROM '^[^:]+://[^/?#]+');
    RETURN NEW;
END $$;

CREATE TRIGGER endpoints_note_move BEFORE UPDATE OF url ON endpoints
    FOR EACH ROW EXECUTE FUNCTION endpoints_note_move();
