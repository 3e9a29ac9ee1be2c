"""The decision: which token a call carries, and for how long that stands."""
