-- Guarantees: the words of an object are those of its key (A), its content type (B) and the values of its metadata (C), each
-- text NFKC-normalised and split at punctuation; names in metadata never count.
-- See it: SELECT cp_storage_tsv('reports/Café-7.pdf', 'application/pdf', '{"owner": "ann"}');
CREATE FUNCTION cp_storage_words(value text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN translate(normalize(value COLLATE "default", NFKC),
                     '!"#$%&''()*+,-./:;<=>?@[\]^_`{|}~', repeat(' ', 32));

CREATE FUNCTION cp_storage_values(metadata jsonb) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (SELECT string_agg(found #>> '{}', ' ')
            FROM jsonb_path_query(metadata, 'strict $.** ? (@.type() == "string" || @.type() == "number")') AS found);

CREATE FUNCTION cp_storage_tsv(object_key text, content_type text, metadata jsonb) RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN setweight(to_tsvector('simple', cp_storage_words(object_key)), 'A')
        || setweight(to_tsvector('simple', cp_storage_words(content_type)), 'B')
        || setweight(to_tsvector('simple', cp_storage_words(coalesce(cp_storage_values(metadata), ''))), 'C');
