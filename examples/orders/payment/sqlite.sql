CREATE TABLE IF NOT EXISTS payment_account (
    customer text PRIMARY KEY,
    opening_cents integer NOT NULL,
    balance_cents integer NOT NULL CHECK (balance_cents >= 0)
) STRICT;

-- One row: where the money goes.
CREATE TABLE IF NOT EXISTS payment_till (
    single integer PRIMARY KEY DEFAULT 1 CHECK (single = 1),
    taken_cents integer NOT NULL DEFAULT 0
) STRICT;

INSERT INTO payment_till VALUES (1, 0) ON CONFLICT DO NOTHING;
