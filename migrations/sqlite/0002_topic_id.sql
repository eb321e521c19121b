-- tidelock, schema version 2: only adds, programs of version 1 go on.

-- The id that the log gave the topic when it was created: one that was deleted and created again has another.
ALTER TABLE tidelock_consumer_topic ADD COLUMN topic_id TEXT;
