"""Old name of ``write_with_retry``, until the agent uses the new one."""

from tryitnow.kubernetes.call import write_with_retry as until_written

__all__ = ["until_written"]
