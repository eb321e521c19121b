//! The states of an order.

/// A step of an order. Its stage says how far it is: the steps come from three topics, in any order between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum State {
    Placed,
    Reserved,
    Paid,
    Declined,
    Shipped,
    Rejected,
    Cancelled,
}

impl State {
    pub(crate) const FINAL: [Self; 3] = [Self::Shipped, Self::Rejected, Self::Cancelled];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Placed => "placed",
            Self::Reserved => "reserved",
            Self::Paid => "paid",
            Self::Declined => "declined",
            Self::Shipped => "shipped",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
        }
    }

    pub(crate) fn stage(self) -> i16 {
        match self {
            Self::Placed => 0,
            Self::Reserved => 1,
            Self::Paid | Self::Declined => 2,
            Self::Shipped | Self::Rejected | Self::Cancelled => 3,
        }
    }
}
