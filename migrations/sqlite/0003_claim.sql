-- tidelock, schema version 3: only adds, older programs go on.

-- Rises whenever the outputs of the last batch are sent again: whoever sent them before may not move them to the quarantine any more.
ALTER TABLE tidelock_fence ADD COLUMN claim INTEGER NOT NULL DEFAULT 0;
