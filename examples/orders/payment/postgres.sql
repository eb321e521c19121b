CREATE TABLE IF NOT EXISTS payment_account (
    customer text PRIMARY KEY,
    opening_cents bigint NOT NULL,
    balance_cents bigint NOT NULL CHECK (balance_cents >= 0)
);

-- One row: where the money goes.
CREATE TABLE IF NOT EXISTS payment_till (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    taken_cents bigint NOT NULL DEFAULT 0
);

INSERT INTO payment_till DEFAULT VALUES ON CONFLICT DO NOTHING;
