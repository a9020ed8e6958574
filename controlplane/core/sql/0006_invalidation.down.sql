-- Back: the triggers of watched tables went with the migrations that made them.
DROP FUNCTION cp_cache_unwatch(regclass);
DROP FUNCTION cp_cache_watch(regclass, text, text, text[], text[], text);
DROP FUNCTION cp_cache_note();
DROP TABLE cp_core_invalidation;
