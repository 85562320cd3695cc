"""Hypothesis asserts no time: on a busy machine a slow example is no defect."""

from hypothesis import HealthCheck, settings

settings.register_profile("ringbroker", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ringbroker")
