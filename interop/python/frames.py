"""Checks recorded frames against docs/asyncapi.yaml: python frames.py ASYNCAPI FRAMES…

Each line of a frame must be exactly one of the document's messages in its direction, and each message must have been seen.
"""

import collections
import json
import sys

import jsonschema
import yaml

# The document describes the server: what it receives, the SDKs sent.
ACTIONS = {"sent": "receive", "received": "send"}


def messages_of(document, action):
    """Name and validator of each message in that direction."""
    for operation in document["operations"].values():
        if operation["action"] != action:
            continue
        for reference in operation["messages"]:
            name = reference["$ref"].rsplit("/", 1)[1]
            schema = {"$ref": f"#/components/messages/{name}/payload", "components": document["components"]}
            yield name, jsonschema.Draft7Validator(schema)


def faults_of(value, messages):
    """Why no message fits: for the one whose members are those of the value, in detail."""
    names = [name for name, validator in messages if not list(validator.iter_errors(value))]
    if len(names) == 1:
        return names[0], None
    if names:
        return None, f"is {' and '.join(names)} at once"
    nearest = min((list(validator.iter_errors(value)) for _, validator in messages), key=lambda errors: sum(map(weight, errors)))
    return None, "; ".join(f"{error.json_path}: {error.message}" for error in nearest)


def weight(error):
    # The further down a fault is, the nearer the message is to what was meant.
    return 1 / (1 + len(error.absolute_path)) ** 4


def main(path, *files):
    with open(path, encoding="utf-8") as file:
        document = yaml.safe_load(file)
    messages = {direction: list(messages_of(document, action)) for direction, action in ACTIONS.items()}
    seen, faults = collections.Counter(), []
    for file_name in files:
        with open(file_name, encoding="utf-8") as file:
            for frame in map(json.loads, file):
                for line in frame["text"].split("\n"):
                    name, fault = faults_of(json.loads(line), messages[frame["direction"]])
                    seen[name] += 1
                    if fault:
                        faults.append(f"{frame['direction']} {line[:300]}\n        {fault}")
    for fault in faults[:20]:
        print(f"FAILED  frame   {fault}")
    known = {name for of_direction in messages.values() for name, _ in of_direction}
    for name in sorted(known - set(seen)):
        faults.append(name)
        print(f"FAILED  frame   no scenario sent or received {name}")
    if not faults:
        print(f"ok      frames  {sum(seen.values())} messages are as docs/asyncapi.yaml says; all {len(known)} kinds were seen")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
