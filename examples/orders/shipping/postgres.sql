CREATE TABLE IF NOT EXISTS shipping_parcel (
    parcel bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id uuid NOT NULL,
    sent_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX IF NOT EXISTS shipping_parcel_order ON shipping_parcel (order_id);
