"""Searches for proofs by bound propagation: untrusted, what they find is proved by `certlip.proofs.relaxation`."""
