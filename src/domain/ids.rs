//! Ids of the ledger's rows, each a type of its own, so that none can be passed for another.

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub i64);

        impl std::fmt::Display for $name {
            fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(out)
            }
        }
    };
}

id! {
    /// A subject: what events make us re-read.
    SubjectId
}
id! {
    /// A learner whom we have read at least once.
    PersonId
}
id! {
    /// A record.
    RecordId
}
id! {
    /// A configured destination.
    DestinationId
}
id! {
    /// A route of a destination.
    RouteId
}
id! {
    /// A version of a route's mapping.
    MappingId
}
id! {
    /// A delivery.
    DeliveryId
}
id! {
    /// A reconciliation run.
    RunId
}
