-- tidelock, schema version 3: only exchanges an index, older programs go on.

-- A B-tree takes no key beyond some 2700 bytes: a refused message with a longer one could not be quarantined, and its shard stood
-- still. A hash index takes any.
DROP INDEX tidelock.quarantine_key;
CREATE INDEX quarantine_key ON tidelock.quarantine USING hash (key);
