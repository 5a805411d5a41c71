"""The attacks that every classifier's accuracy is measured under (metrics.json)."""

EPSILON = 0.03
"""The budget of both."""
PUBLISHED_STEPS = 8
"""PGD's steps in adversarial_accuracy, as published."""
CONVERGED_STEPS = 50
"""APGD's steps in robust_accuracy, on images that withstand PGD: PGD-8 leaves much undone."""
PUBLISHED = f"PGD-{PUBLISHED_STEPS}"
CONVERGED = f"APGD-{CONVERGED_STEPS}"
ROBUST = f"{PUBLISHED} or {CONVERGED}"
