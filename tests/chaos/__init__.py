"""Faults on real processes: what the service promises must hold whatever is killed, frozen or cut off."""
