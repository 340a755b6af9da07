"""Collections of other tools as profiles: every point is carried without loss, or refused with a reason."""
