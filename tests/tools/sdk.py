"""One turn of a conversation by an official SDK, with streaming and a shell tool.

Arguments: the vendor, and the number of the turn.
"""
import json
import subprocess
import sys

vendor, turn = sys.argv[1], int(sys.argv[2])
prompt = ["Say something.", "SHELLCALL, please.", "Say something else."][turn - 1]
schema = {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}


def run(command):
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout


def openai():
    from openai import OpenAI

    client = OpenAI()
    tool = {"type": "function", "name": "shell_command", "parameters": schema, "strict": False}
    items = [{"role": "user", "content": prompt}]
    while True:
        stream = client.responses.create(model="gpt-5", input=items, tools=[tool], stream=True)
        response = [event for event in stream if event.type == "response.completed"][0].response
        calls = [item for item in response.output if item.type == "function_call"]
        if not calls:
            return response.output_text
        for call in calls:
            items.append(call.model_dump(exclude_none=True))
            output = run(json.loads(call.arguments)["command"])
            items.append({"type": "function_call_output", "call_id": call.call_id, "output": output})


def anthropic():
    from anthropic import Anthropic

    client = Anthropic()
    tool = {"name": "shell", "description": "Runs a command.", "input_schema": schema}
    messages = [{"role": "user", "content": prompt}]
    while True:
        with client.messages.stream(model="claude-x", max_tokens=100, messages=messages, tools=[tool]) as stream:
            message = stream.get_final_message()
        calls = [block for block in message.content if block.type == "tool_use"]
        if not calls:
            return message.content[0].text
        messages.append({"role": "assistant", "content": message.content})
        results = [
            {"type": "tool_result", "tool_use_id": call.id, "content": run(call.input["command"])} for call in calls
        ]
        messages.append({"role": "user", "content": results})


print({"openai": openai, "anthropic": anthropic}[vendor]())
