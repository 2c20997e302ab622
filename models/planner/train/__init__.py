"""Fine-tuning of the planner: LoRA on the embedded 135M, QLoRA with FSDP on a 70B, one command."""
