CREATE TABLE IF NOT EXISTS orders_product (
    sku text PRIMARY KEY,
    price_cents integer NOT NULL CHECK (price_cents > 0)
) STRICT;

INSERT INTO orders_product VALUES
    ('anchor', 4900), ('buoy', 1900), ('compass', 3500), ('flag', 900),
    ('lantern', 2500), ('rope', 1200), ('sail', 9900), ('sextant', 24900)
ON CONFLICT DO NOTHING;

CREATE TABLE IF NOT EXISTS orders_order (
    id blob PRIMARY KEY,
    idempotency_key text UNIQUE,
    customer text NOT NULL,
    amount_cents integer NOT NULL,
    placed_at text NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ'))
) STRICT;

CREATE TABLE IF NOT EXISTS orders_line (
    order_id blob NOT NULL REFERENCES orders_order,
    sku text NOT NULL REFERENCES orders_product,
    quantity integer NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (order_id, sku)
) STRICT;

-- As in postgres.sql.
CREATE TABLE IF NOT EXISTS orders_step (
    order_id blob NOT NULL,
    state text NOT NULL,
    stage integer NOT NULL,
    detail text,
    at text NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ'))
) STRICT;

CREATE INDEX IF NOT EXISTS orders_step_order ON orders_step (order_id);

CREATE VIEW IF NOT EXISTS orders_history AS
SELECT order_id, state, stage, detail, at AS at_text FROM orders_step;
