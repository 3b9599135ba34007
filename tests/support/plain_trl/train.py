from datasets import load_dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

trainer = SFTTrainer(
    model="base",
    args=SFTConfig(
        output_dir="out",
        max_steps=30,
        per_device_train_batch_size=4,
        learning_rate=1e-3,
        logging_steps=1,
        save_steps=10,
        save_total_limit=3,
        max_length=256,
        bf16=False,
        report_to="none",
    ),
    train_dataset=load_dataset("json", data_files="data/conversations.jsonl", split="train"),
    peft_config=LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"),
)
trainer.train()

merged = trainer.model.merge_and_unload()
merged.save_pretrained("merged")
trainer.processing_class.save_pretrained("merged")
