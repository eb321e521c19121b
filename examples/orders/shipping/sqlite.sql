CREATE TABLE IF NOT EXISTS shipping_parcel (
    parcel integer PRIMARY KEY AUTOINCREMENT,
    order_id blob NOT NULL,
    sent_at text NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ'))
) STRICT;

CREATE INDEX IF NOT EXISTS shipping_parcel_order ON shipping_parcel (order_id);
