"""The feature flag: who answers for it, and how a slow answer is waited for."""
