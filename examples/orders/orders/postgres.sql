CREATE TABLE IF NOT EXISTS orders_product (
    sku text PRIMARY KEY,
    price_cents bigint NOT NULL CHECK (price_cents > 0)
);

INSERT INTO orders_product VALUES
    ('anchor', 4900), ('buoy', 1900), ('compass', 3500), ('flag', 900),
    ('lantern', 2500), ('rope', 1200), ('sail', 9900), ('sextant', 24900)
ON CONFLICT DO NOTHING;

CREATE TABLE IF NOT EXISTS orders_order (
    id uuid PRIMARY KEY,
    idempotency_key text UNIQUE,
    customer text NOT NULL,
    amount_cents bigint NOT NULL,
    placed_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS orders_line (
    order_id uuid NOT NULL REFERENCES orders_order,
    sku text NOT NULL REFERENCES orders_product,
    quantity bigint NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (order_id, sku)
);

-- One row per step. Nothing is ever updated: the steps of an order come from three topics, in any order between them,
-- and the state of the order is its furthest step. No constraint forbids a step twice: the framework does, and the
-- verification looks whether it did.
CREATE TABLE IF NOT EXISTS orders_step (
    order_id uuid NOT NULL,
    state text NOT NULL,
    stage smallint NOT NULL,
    detail text,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX IF NOT EXISTS orders_step_order ON orders_step (order_id);

-- The history as people read it.
CREATE OR REPLACE VIEW orders_history AS
SELECT order_id, state, stage, detail, to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS at_text
FROM orders_step;
