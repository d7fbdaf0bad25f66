"""A hook as a Python entry point: nothing may start that does not say who pays for it.

pip install ./examples/hooks/quota
reconciler run --hooks quota SPECS
"""


def pre_launch(container):
    if "." in container["name"]:
        return None  # nested: its top-level container has been asked about
    team = container["labels"].get("team")
    if team is None:
        return {"veto": "it has no label `team`, so nobody would pay for it"}
    return {"env": {"TEAM": team}}
