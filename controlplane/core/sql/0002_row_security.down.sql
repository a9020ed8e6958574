DROP FUNCTION cp_unreadable(regclass);
DROP FUNCTION cp_readable(regclass, text[]);
DROP FUNCTION cp_unisolate(regclass);
DROP FUNCTION cp_isolate(regclass, text, text);
DROP FUNCTION cp_scope();
