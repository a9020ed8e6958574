-- Guarantees: the words of an object are those of its key (A), its content type (B) and the values of its metadata (C), each
-- text NFKC-normalised and split at the 32 ASCII punctuation characters; names in metadata never count. No phrase spans two
-- values. Bodies are RETURN and not text: a restore, with its empty search_path, finds the functions they call.
-- See it: SELECT cp_storage_tsv('reports/Café-7.pdf', 'application/pdf', '{"owner": "ann"}');

-- Split by regexp_replace and not by translate, which takes 2 and 26 µs for 127 characters. A class of characters on a value of
-- collation "C", as keys are, would lose all but ASCII.
CREATE FUNCTION cp_storage_words(value text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN regexp_replace(normalize(value COLLATE "default", NFKC), '[!-/:-@\[-`{-~]+', ' ', 'g');

-- All texts and numbers at any depth, chr(1) between them.
CREATE FUNCTION cp_storage_values(metadata jsonb) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (SELECT string_agg(found #>> '{}', chr(1))
            FROM jsonb_path_query(metadata, 'strict $.** ? (@.type() == "string" || @.type() == "number")') AS found);

-- The values become one text, which is normalised and split at once, and then a JSON array again: to_tsvector leaves a gap
-- between its elements.
CREATE FUNCTION cp_storage_tsv(object_key text, content_type text, metadata jsonb) RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN setweight(to_tsvector('simple', cp_storage_words(object_key)), 'A')
        || setweight(to_tsvector('simple', cp_storage_words(content_type)), 'B')
        || setweight(jsonb_to_tsvector(
               'simple', to_jsonb(string_to_array(cp_storage_words(coalesce(cp_storage_values(metadata), '')), chr(1))),
               '"string"'), 'C');
