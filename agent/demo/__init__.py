"""`histopilot demo`: a conversation about an image in the browser (`agent.demo.app.launch`)."""
