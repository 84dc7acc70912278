-- Catalog views. Each must give exactly the columns of its relation in relations.txt.

-- @pg_catalog.pg_roles
SELECT rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolconnlimit,
       '********'::text, rolvaliduntil, rolbypassrls, NULL::text[], oid
  FROM pg_catalog.pg_authid

-- @pg_catalog.pg_user
SELECT rolname, oid, rolcreatedb, rolsuper, rolreplication, rolbypassrls, '********'::text, rolvaliduntil, NULL::text[]
  FROM pg_catalog.pg_authid WHERE rolcanlogin

-- @pg_catalog.pg_tables
SELECT n.nspname, c.relname, pg_catalog.pg_get_userbyid(c.relowner), NULL::name, c.relhasindex, c.relhasrules,
       c.relhastriggers, c.relrowsecurity
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p')

-- @pg_catalog.pg_views
SELECT n.nspname, c.relname, pg_catalog.pg_get_userbyid(c.relowner), pg_catalog.pg_get_viewdef(c.oid)
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'v'

-- @pg_catalog.pg_indexes
SELECT n.nspname, t.relname, c.relname, NULL::name, pg_catalog.pg_get_indexdef(c.oid)
  FROM pg_catalog.pg_index i
  JOIN pg_catalog.pg_class t ON t.oid = i.indrelid
  JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace

-- @pg_catalog.pg_sequences
SELECT n.nspname, c.relname, pg_catalog.pg_get_userbyid(c.relowner), s.seqtypid::regtype, s.seqstart, s.seqmin,
       s.seqmax, s.seqincrement, s.seqcycle, s.seqcache, NULL::bigint
  FROM pg_catalog.pg_sequence s
  JOIN pg_catalog.pg_class c ON c.oid = s.seqrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace

-- @information_schema.schemata
SELECT pg_catalog.current_database(), nspname, pg_catalog.pg_get_userbyid(nspowner), NULL, NULL, NULL, NULL
  FROM pg_catalog.pg_namespace

-- @information_schema.tables
SELECT pg_catalog.current_database(), n.nspname, c.relname,
       CASE c.relkind WHEN 'v' THEN 'VIEW' ELSE 'BASE TABLE' END, NULL, NULL, NULL, NULL, NULL, 'NO', 'NO', NULL
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'v')

-- @information_schema.views
SELECT pg_catalog.current_database(), n.nspname, c.relname, pg_catalog.pg_get_viewdef(c.oid), 'NONE', 'NO', 'NO',
       'NO', 'NO', 'NO'
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'v'

-- @information_schema.columns
SELECT pg_catalog.current_database(), n.nspname, c.relname, a.attname, a.attnum,
       (SELECT d.adbin FROM pg_catalog.pg_attrdef d WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum),
       CASE WHEN a.attnotnull THEN 'NO' ELSE 'YES' END,
       CASE WHEN tn.nspname = 'pg_catalog' THEN pg_catalog.format_type(a.atttypid, NULL) ELSE 'USER-DEFINED' END,
       NULL, CASE WHEN t.typname = 'text' THEN 1073741824 END,
       CASE t.typname WHEN 'int4' THEN 32 WHEN 'int8' THEN 64 WHEN 'int2' THEN 16 END,
       CASE WHEN t.typname IN ('int2', 'int4', 'int8') THEN 2 END,
       CASE WHEN t.typname IN ('int2', 'int4', 'int8') THEN 0 END,
       CASE WHEN t.typname = 'timestamptz' THEN 6 END,
       NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
       pg_catalog.current_database(), tn.nspname, t.typname, NULL, NULL, NULL, NULL, a.attnum::text, 'NO', 'NO', NULL,
       NULL, NULL, NULL, NULL, 'NO', 'NEVER', NULL, CASE WHEN c.relkind = 'r' THEN 'YES' ELSE 'NO' END
  FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
  JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace
 WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'v')

-- @information_schema.table_constraints
SELECT pg_catalog.current_database(), n.nspname, k.conname, pg_catalog.current_database(), n.nspname, c.relname,
       CASE k.contype WHEN 'c' THEN 'CHECK' WHEN 'f' THEN 'FOREIGN KEY' WHEN 'p' THEN 'PRIMARY KEY' ELSE 'UNIQUE' END,
       CASE WHEN k.condeferrable THEN 'YES' ELSE 'NO' END, CASE WHEN k.condeferred THEN 'YES' ELSE 'NO' END, 'YES',
       CASE k.contype WHEN 'u' THEN 'YES' END
  FROM pg_catalog.pg_constraint k
  JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE k.contype IN ('c', 'f', 'p', 'u')

-- @information_schema.key_column_usage
SELECT pg_catalog.current_database(), n.nspname, k.conname, pg_catalog.current_database(), n.nspname, c.relname,
       a.attname, array_position(k.conkey, a.attnum), CASE WHEN k.contype = 'f' THEN 1 END
  FROM pg_catalog.pg_constraint k
  JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (k.conkey)
 WHERE k.contype IN ('f', 'p', 'u')
