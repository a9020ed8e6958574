DROP INDEX aimodel_key_trgm_idx;
