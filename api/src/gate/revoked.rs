//! Who was let in by the head of a request, looked at again where something came after: a body may take its time, and so may a wait.

use super::prove;
use crate::state::AppState;
use actix_web::{HttpMessage, HttpRequest, web::Data};
use shared::{Code, Error, Result, accounts::Proof};

/// Refuses a request whose credentials were revoked since its head came, or may do less.
pub(crate) async fn require_unrevoked(request: &HttpRequest) -> Result<()> {
    let Some(proof) = request.extensions().get::<Proof>().copied() else { return Ok(()) };
    let state = request.app_data::<Data<AppState>>().expect("the server registers its state");
    if !state.accounts.is_revoked(&proof) {
        return Ok(());
    }
    // A key outlives what ends the sessions of its user.
    let now = prove(state, request).await?;
    if now.caller != proof.caller {
        return Err(Error::new(Code::InvalidToken, "What these credentials may do has changed since the request began. Send it again."));
    }
    request.extensions_mut().insert(now);
    Ok(())
}
