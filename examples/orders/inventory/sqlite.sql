CREATE TABLE IF NOT EXISTS inventory_stock (
    sku text PRIMARY KEY,
    supplied integer NOT NULL,
    available integer NOT NULL CHECK (available >= 0),
    reserved integer NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    shipped integer NOT NULL DEFAULT 0
) STRICT;

-- Plenty of everything but sextants, so that some orders are rejected.
INSERT INTO inventory_stock (sku, supplied, available) VALUES
    ('anchor', 1000000, 1000000), ('buoy', 1000000, 1000000), ('compass', 1000000, 1000000),
    ('flag', 1000000, 1000000), ('lantern', 1000000, 1000000), ('rope', 1000000, 1000000),
    ('sail', 1000000, 1000000), ('sextant', 50, 50)
ON CONFLICT DO NOTHING;

-- What is set aside for orders that are neither shipped nor given back yet.
CREATE TABLE IF NOT EXISTS inventory_reservation (
    order_id blob NOT NULL,
    sku text NOT NULL REFERENCES inventory_stock,
    quantity integer NOT NULL CHECK (quantity > 0)
) STRICT;

CREATE INDEX IF NOT EXISTS inventory_reservation_order ON inventory_reservation (order_id);
CREATE INDEX IF NOT EXISTS inventory_reservation_sku ON inventory_reservation (sku);
