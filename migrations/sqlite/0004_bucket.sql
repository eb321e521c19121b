-- tidelock, schema version 4: only adds, older programs go on.

-- With several shards, one stops at a row whose bucket is not that of its key. To mend it, insert it anew with the right one and delete
-- it, in one transaction: the shard of the right one may have passed its place already, and would delete it unpublished.
CREATE TRIGGER tidelock_outbox_bucket BEFORE UPDATE OF bucket ON tidelock_outbox
WHEN NEW.bucket <> OLD.bucket AND (SELECT shards FROM tidelock_relay) > 1
BEGIN
    SELECT RAISE(ABORT, 'bucket of tidelock_outbox is never changed: insert the row anew and delete this one');
END;
