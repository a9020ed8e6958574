-- Guarantees: SQL makes the same UUIDv7 as Python (controlplane.core.ids), and updated_at tells the truth whoever writes.
-- See it: SELECT cp_uuid7(now()); UPDATE a row in psql and look at its updated_at.

-- Milliseconds since 1970, rounded down: rounding to nearest would put 23:59:59.9996 of a last day into the next month.
CREATE FUNCTION cp_uuid7_ms(at timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN floor(extract(epoch FROM at) * 1000)::bigint;

-- The 12 bits after the milliseconds are the fraction of the millisecond (RFC 9562, method 3), so that the rows of one
-- transaction keep their order; the other 62 are random.
CREATE FUNCTION cp_uuid7(at timestamptz) RETURNS uuid LANGUAGE sql VOLATILE STRICT PARALLEL SAFE
    RETURN (
        lpad(to_hex(
            cp_uuid7_ms(at) << 16 | 28672 | (floor(extract(epoch FROM at) * 1000000)::bigint % 1000) * 4096 / 1000
        ), 16, '0') || substring(encode(uuid_send(gen_random_uuid()), 'hex') FROM 17)
    )::uuid;

-- The same arguments, the same id: time bits of `at`, random bits = the first 74 of SHA-256(seed).
CREATE FUNCTION cp_uuid7_of(at timestamptz, seed bytea) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN (
        SELECT (
            lpad(to_hex(cp_uuid7_ms(at) << 16 | 28672 | substring(h.bits FROM 1 FOR 12)::int), 16, '0')
            || lpad(to_hex((B'10' || substring(h.bits FROM 13 FOR 62))::bit(64)::bigint), 16, '0')
        )::uuid
        FROM (SELECT ('x' || encode(substring(sha256(seed) FROM 1 FOR 10), 'hex'))::bit(80) AS bits) h
    );

CREATE FUNCTION cp_touch_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW IS DISTINCT FROM OLD THEN
        NEW.updated_at := clock_timestamp();
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION cp_touch(target regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format(
        'CREATE TRIGGER cp_touch BEFORE UPDATE ON %s FOR EACH ROW EXECUTE FUNCTION cp_touch_row()', target);
END $$;

CREATE FUNCTION cp_untouch(target regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('DROP TRIGGER cp_touch ON %s', target);
END $$;

-- Whether the server computes local times of this zone. Looks like an IANA name: the server would take POSIX rules too.
CREATE FUNCTION cp_is_time_zone(value text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
    PERFORM timestamptz '2020-01-01 00:00Z' AT TIME ZONE value;
    RETURN value ~ '^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$' AND value !~ '^[A-Za-z]+[+-]?[0-9]+$';
EXCEPTION WHEN invalid_parameter_value THEN
    RETURN false;
END $$;

CREATE FUNCTION cp_is_object(value jsonb, max_bytes integer) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN coalesce(jsonb_typeof(value) = 'object' AND octet_length(value::text) <= max_bytes, false);
