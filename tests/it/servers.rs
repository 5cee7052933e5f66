pub async fn mongodb_url()->String{todo!()}
pub async fn redis_url()->String{todo!()}
