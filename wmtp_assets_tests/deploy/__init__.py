"""Files of ``deploy/``: what can be checked where no container runs."""
