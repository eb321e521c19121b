CREATE TABLE IF NOT EXISTS inventory_stock (
    sku text PRIMARY KEY,
    supplied bigint NOT NULL,
    available bigint NOT NULL CHECK (available >= 0),
    reserved bigint NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    shipped bigint NOT NULL DEFAULT 0
);

-- Plenty of everything but sextants, so that some orders are rejected.
INSERT INTO inventory_stock (sku, supplied, available)
SELECT sku, pieces, pieces
FROM (VALUES
    ('anchor', 1000000), ('buoy', 1000000), ('compass', 1000000), ('flag', 1000000),
    ('lantern', 1000000), ('rope', 1000000), ('sail', 1000000), ('sextant', 50)
) AS supply (sku, pieces)
ON CONFLICT DO NOTHING;

-- What is set aside for orders that are neither shipped nor given back yet.
CREATE TABLE IF NOT EXISTS inventory_reservation (
    order_id uuid NOT NULL,
    sku text NOT NULL REFERENCES inventory_stock,
    quantity bigint NOT NULL CHECK (quantity > 0)
);

CREATE INDEX IF NOT EXISTS inventory_reservation_order ON inventory_reservation (order_id);
